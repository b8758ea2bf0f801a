// Makes keys of tokens, as private JWKs, and prints the sets by which they are checked, of keys and of other sets:
//   npm run -s key -- --service orders > orders.json
//   npm run -s key -- --public orders.json payments.json > services.json
import { issuerOf } from "@parley/chassis/auth/authenticate.ts";
import { createKey, publicKeys, readKeys } from "@parley/chassis/auth/key.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "./arguments.ts";
import { findService } from "./find-service.ts";

const usage = "npm run -s key -- --service orders | --users | --public FILE…";

try {
  const options = { service: { type: "string" }, users: { type: "boolean" }, public: { type: "boolean" } } as const;
  const { values, positionals } = parseArguments({ options, allowPositionals: true }, usage);
  const chosen = [values.service, values.users, values.public].filter((value) => value !== undefined);
  if (chosen.length !== 1 || (values.public === true) !== positionals.length > 0) throw new StartError(`usage: ${usage}`);
  if (values.public) print(publicKeys(readAll(positionals)));
  else print(await createKey(values.service === undefined ? "users" : issuerOf((await findService(values.service)).name)));
} catch (error) {
  exitOnStartError(error);
}

/** Throws StartError where two keys have one id: a token could be of either, and would be refused. */
function readAll(files: readonly string[]): ReturnType<typeof readKeys> {
  const keys = files.flatMap(readKeys);
  if (keys.some(({ kid }) => typeof kid !== "string")) throw new StartError("a key has no kid, by which tokens say which one they are of");
  const twice = keys.find(({ kid }, index) => keys.findIndex((other) => other.kid === kid) < index);
  if (twice !== undefined) throw new StartError(`two keys have the kid ${twice.kid}`);
  return keys;
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
