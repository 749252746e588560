import { isIP } from "node:net";

/**
 * Where this app reaches its own API, at run time only. An instance that is bound to one
 * address (HOSTNAME, as the standalone server reads it) does not answer on 127.0.0.1.
 */
export function origin(): string {
  if (process.env.STOREFRONT_ORIGIN) return process.env.STOREFRONT_ORIGIN;
  const bound = process.env.HOSTNAME ?? "";
  const family = ["0.0.0.0", "::"].includes(bound) ? 0 : isIP(bound);
  const host = family === 6 ? `[${bound}]` : family === 4 ? bound : "127.0.0.1";
  return `http://${host}:${process.env.PORT ?? "3000"}`;
}
