import { connect } from "node:net";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { startProcess } from "@parley/chassis/serve.ts";
import { type Component, defineService } from "@parley/chassis/service.ts";
import { testAuth } from "@parley/chassis/testing/auth.ts";
import { echo } from "@parley/chassis/testing/echo.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { onTestFinished } from "vitest";
import { createGateway } from "./gateway.ts";

/** A service for tests, which the gateway finds by its name as it finds any other. */
export function defineEcho(handlers: Partial<typeof echo> = {}): Component {
  return defineService({
    name: "testing",
    config: {},
    start: () => ({ handlers: [implement(EchoService, { ...echo, ...handlers })] }),
  });
}

/** A gateway and the echo service behind it, on ports of their own; they stop with the test. */
export async function openTestGateway(options: { handlers?: Partial<typeof echo>; env?: NodeJS.ProcessEnv } = {}) {
  const basePort = await findFreePorts(3);
  const running = await startProcess([defineEcho(options.handlers), createGateway(["testing"])], {
    PARLEY_GRPC_BASE_PORT: String(basePort),
    PARLEY_GATEWAY_PORT: String(basePort + 1),
    PARLEY_ADMIN_BASE_PORT: String(basePort + 2),
    PARLEY_DRAIN_TIMEOUT: "1ms",
    PARLEY_LOG_LEVEL: "silent",
    PARLEY_DATA_DIR: (await testAuth()).dataDir,
    ...options.env,
  });
  onTestFinished(() => running.stop());
  return { url: `http://127.0.0.1:${basePort + 1}`, port: basePort + 1, running };
}

/** Sends bytes and returns all that comes back before the other side closes the connection. */
export function talk(port: number, bytes: string, localAddress = "127.0.0.1"): Promise<string> {
  return new Promise((resolve) => {
    let received = "";
    const socket = connect({ port, host: "127.0.0.1", localAddress }, () => socket.write(bytes, "latin1"));
    socket.on("data", (chunk) => (received += chunk));
    socket.on("error", () => resolve(received)).on("close", () => resolve(received));
  });
}
