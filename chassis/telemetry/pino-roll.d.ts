/** pino-roll has no types of its own: what is used of it, by its README. */
declare module "pino-roll" {
  import type { SonicBoom } from "sonic-boom";

  export default function roll(options: {
    readonly file: string;
    readonly size: string;
    readonly limit: { readonly count: number; readonly removeOtherLogFiles: boolean };
    readonly mkdir: boolean;
    readonly maxLength: number;
  }): Promise<SonicBoom & { readonly file: string }>;
}
