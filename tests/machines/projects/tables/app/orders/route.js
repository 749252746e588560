import postgres from "postgres";

export const dynamic = "force-dynamic";
const sql = postgres(process.env.DATABASE_URL ?? "postgresql://nobody@127.0.0.1:1/none");

/** Named prepared statements, or none, as DATABASE_URL says; SELECT * notices a schema that has changed. */
export async function GET() {
  try {
    const rows = await sql`select * from orders order by id`;
    return Response.json({ release: process.env.ROADBED_RELEASE, rows, prepare: sql.options.prepare, max: sql.options.max });
  } catch (error) {
    return Response.json({ error: `${error.code}: ${error.message}` }, { status: 503 });
  }
}
