import { type NextRequest, connection } from "next/server";
import { database } from "@/lib/db";
import { bounded } from "@/lib/sleep";

/** The database. `?hold=ms` keeps the connection busy, to see what a pool does under load. */
export async function GET(request: NextRequest) {
  await connection();
  const pool = database();
  if (!pool) return unavailable("DATABASE_URL is not set");
  const hold = bounded(request.nextUrl.searchParams.get("hold"), 0, 0, 4_000);
  try {
    if (hold) await pool.query("select pg_sleep($1)", [hold / 1_000]);
    const { rows } = await pool.query("select product_id, quantity from stock order by product_id");
    return Response.json({ stock: rows });
  } catch (error) {
    return unavailable(error instanceof Error ? error.message || error.name : String(error));
  }
}

function unavailable(reason: string) {
  console.error(`stock: ${reason}`);
  return Response.json({ error: "the stock database is unavailable", reason }, { status: 503 });
}
