import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** A proxy in front of a Postgres that listens on a Unix socket. */
export interface PostgresProxy {
  /** The database's URL, by way of the proxy. */
  readonly url: string;
  /** Lets nothing more through on the connections that are open, and closes none. */
  freeze(): void;
}

/** Opens a proxy on the loopback interface; it closes with the test. */
export async function openPostgresProxy(url: string, listenPort = 0): Promise<PostgresProxy> {
  const [, host = "", port = "5432"] = /@([^/:]*)(?::(\d+))?\//.exec(url) ?? [];
  const pairs = new Set<readonly [Socket, Socket]>();
  const server = createServer((client) => {
    const upstream = connect(`${decodeURIComponent(host)}/.s.PGSQL.${port}`);
    for (const socket of [client, upstream]) socket.on("error", () => {});
    client.pipe(upstream).pipe(client);
    pairs.add([client, upstream]);
  }).listen(listenPort, "127.0.0.1");
  onTestFinished(() => {
    server.close();
    for (const socket of [...pairs].flat()) socket.destroy();
  });
  await once(server, "listening");
  return {
    url: url.replace(/@[^/]*\//, `@127.0.0.1:${(server.address() as AddressInfo).port}/`),
    freeze() {
      for (const [client, upstream] of pairs) {
        client.unpipe(upstream).pause();
        upstream.unpipe(client).pause();
      }
    },
  };
}
