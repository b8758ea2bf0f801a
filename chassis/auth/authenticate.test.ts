import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Code } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";
import { expect, onTestFinished, test } from "vitest";
import { authConfig, createAuthenticate } from "../auth/authenticate.ts";
import { customerIdOf, identityKey } from "../auth/caller.ts";
import { createKey, publicKeys, readKey } from "../auth/key.ts";
import { ensureLocalKeys } from "../auth/local-keys.ts";
import { createServiceToken } from "../auth/service-token.ts";
import { readConfig } from "../config.ts";
import { serverInterceptors } from "../rpc/interceptors/all.ts";
import { asService, asUser, testAuth } from "../testing/auth.ts";
import { failureOf } from "../testing/failure.ts";
import { openTestEcho } from "../testing/rpc.ts";
import { testTelemetry } from "../testing/telemetry.ts";

/** The method Secret is for staff and services. */
async function openSecret() {
  const seen: (string | undefined)[] = [];
  const { client } = await openTestEcho({
    secret: (_request, { values }) => {
      seen.push(values.get(identityKey)?.subject);
      return {};
    },
  });
  return { client, seen };
}

test("whom the contract names is let in, and the handler learns who it is", async () => {
  const { client, seen } = await openSecret();
  await client.secret({}, await asUser("bob", "staff"));
  await client.secret({}, await asUser("eve", "customer", "staff"));
  await client.secret({}, await asService());
  expect(seen).toEqual(["bob", "eve", "test"]);
});

test("a valid token without the role is PERMISSION_DENIED", async () => {
  const { client } = await openSecret();
  for (const options of [await asUser("alice", "customer"), await asUser("alice")]) {
    const error = await failureOf(client.secret({}, options));
    expect(error).toMatchObject({ code: Code.PermissionDenied, rawMessage: "Secret needs a token with the role staff or service" });
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "PERMISSION_DENIED" }]);
  }
});

test("a public method asks for no token, and takes no offence at a bad one", async () => {
  const { client } = await openSecret();
  expect((await client.echo({ text: "x" }, { headers: { authorization: "Bearer nonsense" } })).text).toBe("x");
});

/** An issuer of one's own, which serves its keys, and a method that checks tokens by them. */
async function openIssuer(alg: "EdDSA" | "ES256" | "RS256" | "ES384" = "ES256") {
  const keys: object[] = [];
  let fetched = 0;
  const server = createServer((_request, response) => {
    fetched++;
    response.end(JSON.stringify({ keys }));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  onTestFinished(() => void server.close());
  const addKey = async (kid: string) => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    keys.push({ ...(await exportJWK(publicKey)), kid, alg });
    return (claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}): Promise<string> => {
      const now = Math.floor(Date.now() / 1000);
      const all = { iss: "https://id.example", aud: "shop", sub: "bob", roles: ["staff"], exp: now + 60, ...claims };
      return new SignJWT(all).setProtectedHeader({ alg, kid, ...header }).sign(privateKey);
    };
  };
  const servicesUrl = `file://${(await testAuth()).dataDir}/keys/services.public.json`;
  const authenticate = createAuthenticate({
    PARLEY_AUTH_JWKS_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`,
    PARLEY_AUTH_SERVICE_JWKS_URL: servicesUrl,
    PARLEY_AUTH_ISSUER: "https://id.example",
    PARLEY_AUTH_AUDIENCE: "shop",
  });
  const { client } = await openTestEcho(
    {},
    { interceptors: serverInterceptors({ telemetry: testTelemetry(), shed: (next) => next, authenticate }) },
  );
  const call = (token: string) => client.secret({}, { headers: { authorization: `Bearer ${token}` } });
  return { addKey, call, authenticate, server, fetches: () => fetched };
}

test.each(["EdDSA", "ES256", "RS256"] as const)("tokens signed by %s with a key that the issuer serves are taken", async (alg) => {
  const { addKey, call } = await openIssuer(alg);
  const sign = await addKey("one");
  await call(await sign());
});

test("keys are fetched once, and not for each key that a token makes up", async () => {
  const { addKey, call, fetches } = await openIssuer();
  const sign = await addKey("one");
  for (let count = 0; count < 3; count++) await call(await sign());
  expect(fetches()).toBe(1);
  for (let count = 0; count < 3; count++) await failureOf(call(await sign({}, { kid: `made-up-${count}` })));
  expect(fetches()).toBe(1); // within the 30 s
});

test("a token is good for 30 s beyond its end, for clocks differ", async () => {
  const { addKey, call } = await openIssuer();
  const sign = await addKey("one");
  const now = Math.floor(Date.now() / 1000);
  await call(await sign({ exp: now - 25 }));
  await call(await sign({ nbf: now + 25 }));
});

test.each<[string, RegExp, Record<string, unknown>, Record<string, unknown>?]>([
  ["has expired", /has expired/, { exp: 1_000_000_000 }],
  ["never expires", /exp/, { exp: undefined }],
  ["begins later", /nbf/, { nbf: 5_000_000_000 }],
  ["is of another issuer", /iss/, { iss: "https://evil.example" }],
  ["is for somebody else", /aud/, { aud: "bank" }],
  ["has no subject", /sub/, { sub: undefined }],
  ["has an empty subject", /sub/, { sub: "" }],
  ["has a subject that is no text", /sub/, { sub: 5 }],
  ["has a subject with NUL", /sub/, { sub: "a\0b" }],
  ["claims to be a service's", /not valid/, { iss: "service:test", sub: "service:test" }],
])("a token that %s is UNAUTHENTICATED", async (_title, message, claims) => {
  const { addKey, call } = await openIssuer();
  const sign = await addKey("one");
  const error = await failureOf(call(await sign(claims)));
  expect(error).toMatchObject({ code: Code.Unauthenticated, rawMessage: expect.stringMatching(message) });
});

test("a user's token gives no role SERVICE, whatever it says", async () => {
  const { addKey, authenticate } = await openIssuer();
  const sign = await addKey("one");
  const { roles } = await authenticate(`Bearer ${await sign({ roles: ["service", "SERVICE", "customer", 5, "__proto__"] })}`);
  expect([...roles]).toEqual([Access.CUSTOMER]);
});

test.each([
  ["none", null],
  ["an empty one", "Bearer "],
  ["another scheme", "Basic Ym9iOmJvYg=="],
  ["nonsense", "Bearer nonsense"],
  ["one whose issuer is no text", `Bearer ${btoa('{"alg":"EdDSA","kid":"users"}')}.${btoa('{"iss":5,"sub":"bob"}')}.AAAA`],
  ["one that is not signed", `Bearer ${btoa('{"alg":"none"}')}.${btoa('{"iss":"https://id.example","sub":"bob","roles":["staff"]}')}.`],
])("with %s a call is UNAUTHENTICATED", async (_title, authorization) => {
  const { authenticate } = await openIssuer();
  expect(await failureOf(authenticate(authorization))).toMatchObject({ code: Code.Unauthenticated });
});

test("an algorithm that is not among the three is refused", async () => {
  const { addKey, call } = await openIssuer("ES384");
  const sign = await addKey("one");
  expect(await failureOf(call(await sign()))).toMatchObject({ code: Code.Unauthenticated });
});

test("a service's key signs for itself alone", async () => {
  const { dataDir } = await testAuth();
  const env = await ensureLocalKeys([{ name: "other", keyVariable: "PARLEY_OTHER_KEY_FILE" }], { env: {}, dataDir });
  // Under its own key's name, for another service.
  const jwk = readKey(env["PARLEY_OTHER_KEY_FILE"] ?? "");
  const key = await importJWK(jwk, "EdDSA");
  const claims = { iss: "service:test", sub: "service:test", aud: "parley", exp: Math.floor(Date.now() / 1000) + 60 };
  const disguised = await new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", kid: jwk.kid ?? "" }).sign(key);
  const fresh = createAuthenticate(readConfig(authConfig, env));
  expect(await failureOf(fresh(`Bearer ${disguised}`))).toMatchObject({ code: Code.Unauthenticated });
  const own = await (await createServiceToken("other", env["PARLEY_OTHER_KEY_FILE"] ?? "", "parley"))();
  expect((await fresh(`Bearer ${own}`)).subject).toBe("other");
});

test("a service may change its key: its tokens are taken as long as the set has the key that signed them", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parley-keys-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const keys = await Promise.all(["service:test", "service:test"].map(createKey));
  const headers = await Promise.all(
    keys.map(async (key, index) => {
      const file = join(folder, `${index}.json`);
      writeFileSync(file, JSON.stringify(key));
      return `Bearer ${await (await createServiceToken("test", file, "parley"))()}`;
    }),
  );
  const authenticateBy = (...known: JWK[]) => {
    const file = join(folder, `${known.map(({ kid }) => kid)}.json`);
    writeFileSync(file, JSON.stringify(publicKeys(known)));
    return createAuthenticate(
      readConfig(authConfig, { PARLEY_AUTH_JWKS_URL: `file://${file}`, PARLEY_AUTH_SERVICE_JWKS_URL: `file://${file}` }),
    );
  };
  const both = authenticateBy(...keys);
  for (const header of headers) expect(await both(header)).toMatchObject({ subject: "test" });
  const after = authenticateBy(...keys.slice(1));
  expect(await failureOf(after(headers[0]!))).toMatchObject({ code: Code.Unauthenticated });
  expect(await after(headers[1]!)).toMatchObject({ subject: "test" });
});

test.each([
  [{ kid: "service:other.1" }, /its kid is service:other\.1; expected service:test, or service:test\. and anything$/],
  [{ alg: "ES384" }, /its alg is ES384, which nobody takes; expected EdDSA, ES256, RS256$/],
  [{ alg: "ES256" }, /cannot sign: /],
  [{ d: undefined }, /is no private key as a JWK: it is not private$/],
])("a service does not start with a key whose tokens nobody would take: %j", async (changes, message) => {
  const folder = mkdtempSync(join(tmpdir(), "parley-keys-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "key.json");
  writeFileSync(file, JSON.stringify({ ...(await createKey("service:test")), ...changes }));
  await expect(createServiceToken("test", file, "parley")).rejects.toThrow(message);
});

test("a service whose name has a dot is none: its tokens would be another one's keys'", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parley-keys-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [file, set] = [join(folder, "key.json"), join(folder, "set.json")];
  const key = { ...(await createKey("service:test")), kid: "service:test.staging" };
  writeFileSync(file, JSON.stringify(key));
  writeFileSync(set, JSON.stringify(publicKeys([key])));
  const authenticate = createAuthenticate(
    readConfig(authConfig, { PARLEY_AUTH_JWKS_URL: `file://${set}`, PARLEY_AUTH_SERVICE_JWKS_URL: `file://${set}` }),
  );
  const tokenOf = async (name: string): Promise<string> => `Bearer ${await (await createServiceToken(name, file, "parley"))()}`;
  expect(await authenticate(await tokenOf("test"))).toMatchObject({ subject: "test" });
  expect(await failureOf(authenticate(await tokenOf("test.staging")))).toMatchObject({ code: Code.Unauthenticated });
});

test("keys that cannot be had are UNAVAILABLE, which is no fault of the caller's", async () => {
  const { addKey, call, server } = await openIssuer();
  const sign = await addKey("one");
  server.close();
  server.closeAllConnections();
  expect(await failureOf(call(await sign()))).toMatchObject({ code: Code.Unavailable });
});

test("an issuer that answers with what is no key set is UNAVAILABLE", async () => {
  const { addKey, call, server } = await openIssuer();
  const sign = await addKey("one");
  server.removeAllListeners("request").on("request", (_request, response) => response.end('{"keys":"none"}'));
  expect(await failureOf(call(await sign()))).toMatchObject({ code: Code.Unavailable });
});

test("the customer is who calls; only a service may name one, and must", async () => {
  const asked: string[] = [];
  const { client } = await openTestEcho({
    secret: (_request, context) => {
      asked.push(customerIdOf(context, context.requestHeader.get("x-named") ?? ""));
      return {};
    },
  });
  const [bob, service] = [await asUser("bob", "staff"), await asService()];
  const naming = ({ headers }: typeof bob) => ({ headers: { ...headers, "x-named": "alice" } });
  await client.secret({}, bob);
  await client.secret({}, naming(service));
  expect(asked).toEqual(["bob", "alice"]);
  expect(await failureOf(client.secret({}, naming(bob)))).toMatchObject({ code: Code.PermissionDenied });
  expect(await failureOf(client.secret({}, service))).toMatchObject({ code: Code.InvalidArgument });
});

test("where all keys are given, nothing is made", async () => {
  const env = {
    PARLEY_AUTH_JWKS_URL: "https://id.example",
    PARLEY_AUTH_SERVICE_JWKS_URL: "https://id.example",
    PARLEY_TEST_KEY_FILE: "/key",
  };
  const made = await ensureLocalKeys([{ name: "test", keyVariable: "PARLEY_TEST_KEY_FILE" }], { env, dataDir: "/proc/no-such-folder" });
  expect(made).toEqual({});
});

test("the keys are closed to others, and the folder in which they are is not, for Postgres may be there too", async () => {
  const dataDir = join(mkdtempSync(join(tmpdir(), "parley-keys-")), "data");
  onTestFinished(() => rmSync(dirname(dataDir), { recursive: true }));
  const env = await ensureLocalKeys([{ name: "test", keyVariable: "PARLEY_TEST_KEY_FILE" }], { env: {}, dataDir });
  const modeOf = (path: string): number => statSync(path).mode & 0o777;
  expect([modeOf(dataDir) & 0o001, modeOf(join(dataDir, "keys")), modeOf(env["PARLEY_TEST_KEY_FILE"]!)]).toEqual([1, 0o700, 0o600]);
});
