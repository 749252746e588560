import "server-only";
import { Pool } from "pg";

let pool: Pool | undefined;

/**
 * One small pool per instance, made on first use so that a build needs no database.
 * Timeouts are short: a request shall fail with a reason, not hang.
 * No prepared statements and no session state, so it works behind a transaction pooler.
 */
export function database(): Pool | undefined {
  const connectionString = process.env.DATABASE_URL;
  if (!connectionString) return undefined;
  if (!pool) {
    pool = new Pool({
      connectionString,
      max: Number(process.env.DATABASE_POOL_MAX ?? 5),
      connectionTimeoutMillis: 5_000,
      query_timeout: 10_000,
      idleTimeoutMillis: 30_000,
      allowExitOnIdle: true,
    });
    // Without a listener, the loss of an idle connection would end the process.
    pool.on("error", (error) => console.error(`database: idle connection lost: ${error.message}`));
  }
  return pool;
}
