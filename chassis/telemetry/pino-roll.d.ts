/** pino-roll has no types of its own: what is used of it, by its README. */
declare module "pino-roll" {
  import type { DestinationStream } from "pino";

  interface RollingFile extends DestinationStream {
    on(event: "error", listener: (error: Error) => void): this;
    flushSync(): void;
  }

  export default function roll(options: {
    readonly file: string;
    readonly size: string;
    readonly limit: { readonly count: number; readonly removeOtherLogFiles: boolean };
    readonly mkdir: boolean;
    readonly maxLength: number;
  }): Promise<RollingFile>;
}
