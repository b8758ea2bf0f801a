import type { ConnectError, Interceptor, StreamResponse, UnaryResponse } from "@connectrpc/connect";
import { errorOfAbort, toConnectError } from "./errors.ts";

export type Request = Parameters<ReturnType<Interceptor>>[0];
export type Response = UnaryResponse | StreamResponse;

/**
 * Runs a call with `around` about its start and, where its response is a stream, about every pull
 * of a message. A stream of which a pull fails is told to finish.
 */
export async function wrapResponse(start: () => Promise<Response>, around: <T>(pull: () => Promise<T>) => Promise<T>): Promise<Response> {
  const response = await around(start);
  if (!response.stream) return response;
  return {
    ...response,
    message: {
      [Symbol.asyncIterator]() {
        const messages = response.message[Symbol.asyncIterator]();
        const finish = async (): Promise<IteratorResult<never>> => {
          await messages.return?.();
          return { done: true, value: undefined };
        };
        return {
          next: () =>
            around(() => messages.next()).catch((error: unknown) => {
              around(finish).catch(() => {}); // the first error counts
              throw error;
            }),
          return: () => around(finish),
        };
      },
    },
  };
}

/**
 * Runs a call and tells how it ended, once: the error, or undefined for success. It has ended,
 * too, when its signal fires, whether or not anybody still reads its messages.
 */
export async function watchEnd(
  signal: AbortSignal,
  start: () => Promise<Response>,
  onEnd: (error: ConnectError | undefined) => void,
): Promise<Response> {
  let ended = false;
  const end = (error?: ConnectError): void => {
    if (ended) return;
    ended = true;
    signal.removeEventListener("abort", onAbort);
    onEnd(error);
  };
  const onAbort = (): void => end(errorOfAbort(signal));
  signal.addEventListener("abort", onAbort);
  const pull = async <T>(step: () => Promise<T>): Promise<T> => {
    try {
      return await step();
    } catch (error) {
      end(toConnectError(error));
      throw error;
    }
  };
  const response = await wrapResponse(start, pull);
  if (!response.stream) {
    end();
    return response;
  }
  return {
    ...response,
    message: (async function* () {
      yield* response.message;
      end();
    })(),
  };
}
