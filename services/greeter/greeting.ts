/** Returns the greeting for one person, or the one for everybody. */
export function greet(name = "Microservice"): string {
  return `Hello, ${name}!`;
}
