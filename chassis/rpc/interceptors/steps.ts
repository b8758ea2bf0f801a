import { Code, ConnectError, type Interceptor, type StreamResponse, type UnaryResponse } from "@connectrpc/connect";

export type Request = Parameters<ReturnType<Interceptor>>[0];
export type Response = UnaryResponse | StreamResponse;

/**
 * Runs a call with `around` about each of its steps: the call itself and, where its answer is a
 * stream, every pull of a message. A stream whose step fails is told to finish.
 */
export async function aroundSteps(start: () => Promise<Response>, around: <T>(step: () => Promise<T>) => Promise<T>): Promise<Response> {
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

/** Runs a call and tells how it ended, once: the error, or undefined for success. */
export async function watchEnd(start: () => Promise<Response>, onEnd: (error: ConnectError | undefined) => void): Promise<Response> {
  let ended = false;
  const end = (error?: ConnectError): void => {
    if (!ended) onEnd(error);
    ended = true;
  };
  const failed = (error: unknown): never => {
    end(ConnectError.from(error));
    throw error;
  };
  const response = await start().catch(failed);
  if (!response.stream) {
    end();
    return response;
  }
  return {
    ...response,
    message: {
      [Symbol.asyncIterator]() {
        const messages = response.message[Symbol.asyncIterator]();
        return {
          next: async () => {
            const result = await messages.next().catch(failed);
            if (result.done === true) end();
            return result;
          },
          return: async () => {
            end(new ConnectError("the reader stopped reading", Code.Canceled));
            await messages.return?.();
            return { done: true, value: undefined };
          },
        };
      },
    },
  };
}
