/** Returns figures of several rounds for people: the median, and the least and the most. */
export function shown(values: readonly number[], digits = 0): string {
  const [least, ...rest] = values.toSorted((a, b) => a - b).map((value) => value.toFixed(digits));
  return `${[least, ...rest][Math.floor(values.length / 2)]} (${least} to ${rest.at(-1)})`;
}
