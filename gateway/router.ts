import { decodeSegment, type PathTemplate, textOf } from "./path-template.ts";

/** What stands at a path template for a verb. */
export interface RoutePattern {
  /** The HTTP method; `*`: any. */
  readonly httpMethod: string;
  readonly template: PathTemplate;
}

/** A route whose template matches a path, and the value of each of the template's variables. */
export interface RouteMatch<Route> {
  readonly route: Route;
  readonly values: readonly string[];
}

/** Routes by the segments that they share. */
interface Node<Route> {
  readonly literals: Map<string, Node<Route>>;
  any?: Node<Route>;
  /** Those that end here, by the verb of their template; and those that take all further segments. */
  readonly ends: Map<string, Route[]>;
  readonly rests: Map<string, Route[]>;
}

/**
 * Returns what finds the routes that match a path, the most particular first: segment by
 * segment from the left, text before `*` before `**`. Where a path ends with a verb of theirs, no route without a verb matches. A search visits each node of the
 * routes' tree once at most, however the path is made.
 *
 * Throws, by the names that `nameOf` gives them, on two routes of the same HTTP method whose templates match the same paths.
 */
export function createRouter<Route extends RoutePattern>(routes: readonly Route[], nameOf: (route: Route) => string) {
  const root = createNode<Route>();
  for (const route of routes) addRoute(root, route, nameOf);

  return (path: string): RouteMatch<Route>[] => {
    const parts = path.slice(1).split("/");
    const last = parts.at(-1) ?? "";
    const colon = last.lastIndexOf(":");
    const found = colon < 0 ? [] : findAll(root, [...parts.slice(0, -1), last.slice(0, colon)], last.slice(colon + 1));
    return found.length > 0 ? found : findAll(root, parts, "");
  };
}

function createNode<Route>(): Node<Route> {
  return { literals: new Map(), ends: new Map(), rests: new Map() };
}

function addRoute<Route extends RoutePattern>(root: Node<Route>, route: Route, nameOf: (route: Route) => string): void {
  let node = root;
  const { segments, verb } = route.template;
  const isRest = segments.at(-1) === "**";
  for (const segment of isRest ? segments.slice(0, -1) : segments) {
    if (typeof segment === "object") {
      const next = node.literals.get(segment.literal) ?? createNode<Route>();
      node.literals.set(segment.literal, next);
      node = next;
    } else {
      node.any ??= createNode<Route>();
      node = node.any;
    }
  }
  const byVerb = isRest ? node.rests : node.ends;
  const here = byVerb.get(verb) ?? [];
  const other = here.find(({ httpMethod }) => httpMethod === route.httpMethod);
  if (other !== undefined) throw new Error(`${nameOf(other)} and ${nameOf(route)} have the same route`);
  // The one for any HTTP method comes last.
  byVerb.set(verb, route.httpMethod === "*" ? [...here, route] : [route, ...here]);
}

function findAll<Route extends RoutePattern>(root: Node<Route>, parts: readonly string[], verb: string): RouteMatch<Route>[] {
  const found: RouteMatch<Route>[] = [];
  const take = (routes: readonly Route[] | undefined): void => {
    for (const route of routes ?? []) {
      const { template } = route;
      const values = template.variables.map((variable) => textOf(variable, template, parts)).filter((value) => value !== undefined);
      if (values.length === template.variables.length) found.push({ route, values });
    }
  };
  const walk = (node: Node<Route>, depth: number): void => {
    const part = parts[depth];
    if (part === undefined) take(node.ends.get(verb));
    else if (part !== "") {
      const literal = node.literals.get(decodeSegment(part) ?? "");
      if (literal !== undefined) walk(literal, depth + 1);
      if (node.any !== undefined) walk(node.any, depth + 1);
    }
    if (node.rests.has(verb) && !parts.includes("", depth)) take(node.rests.get(verb));
  };
  walk(root, 0);
  return found;
}
