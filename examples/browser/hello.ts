import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";

const client = createClient(GreeterService, createConnectTransport({ baseUrl: "http://127.0.0.1:8080", useHttpGet: true }));
const show = (text: string): void => {
  document.querySelector("#greetings")?.append(Object.assign(document.createElement("li"), { textContent: text }));
};

document.querySelector("form")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = document.querySelector("input")?.value ?? "";
  try {
    show((await client.hello({ name })).message);
    for await (const { message } of client.helloStream({ names: [name, "everybody"], interval: { nanos: 500_000_000 } })) show(message);
  } catch (error) {
    show(ConnectError.from(error).message); // typed: code, reason, and the violated rule of each field
  }
});
