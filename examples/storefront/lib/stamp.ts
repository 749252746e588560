import { randomUUID } from "node:crypto";

export type Stamp = { id: string; at: string; release: string };

/**
 * Who rendered this, and when. Two pages with the same id are one render: what a shared
 * cache must show on all instances. The line on stdout lets a test count renders.
 */
export function stamp(what: string): Stamp {
  const made = { id: randomUUID(), at: new Date().toISOString(), release: release() };
  console.log(`render ${what} ${made.id}`);
  return made;
}

export function release(): string {
  // `||`: without a deployment id the build replaces NEXT_DEPLOYMENT_ID by `false`.
  return process.env.ROADBED_RELEASE || process.env.NEXT_DEPLOYMENT_ID || "unreleased";
}
