// Prints a user's token: npm run token -- --subject alice --role customer. It is signed with the laptop's key, or with that of a file.
import { authConfig } from "@parley/chassis/auth/authenticate.ts";
import { readKey, signUserToken } from "@parley/chassis/auth/key.ts";
import { localUsersKey } from "@parley/chassis/auth/local-keys.ts";
import { commonConfig, duration, readConfig } from "@parley/chassis/config.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "./arguments.ts";

const usage = "npm run -s token -- --subject alice --role customer [--role staff] [--life 12h] [--key FILE]";

try {
  const options = {
    subject: { type: "string" },
    role: { type: "string", multiple: true },
    life: { type: "string" },
    key: { type: "string" },
  } as const;
  const { subject = "", role: roles = [], life = "", key: keyFile } = parseArguments({ options }, usage).values;
  if (subject === "") throw new StartError(`--subject is missing\nusage: ${usage}`);
  const unknown = roles.filter((role) => role !== "customer" && role !== "staff");
  if (roles.length === 0 || unknown.length > 0) throw new StartError(`--role is customer or staff\nusage: ${usage}`);
  const { PARLEY_DATA_DIR: dataDir } = readConfig(commonConfig, process.env);
  const { PARLEY_AUTH_ISSUER: issuer, PARLEY_AUTH_AUDIENCE: audience } = readConfig(authConfig, process.env);
  const { life: lifeMs } = readConfig({ life: duration("12h", "") }, { life });
  const key = keyFile === undefined ? localUsersKey(dataDir) : readKey(keyFile);
  process.stdout.write(`${await signUserToken(key, { subject, roles, issuer, audience, seconds: Math.ceil(lifeMs / 1_000) })}\n`);
} catch (error) {
  exitOnStartError(error);
}
