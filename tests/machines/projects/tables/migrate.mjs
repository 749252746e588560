// A small tool for migrations: every file of migrations/ once, in order, each in a transaction.
import { readFile, readdir } from "node:fs/promises";
import postgres from "postgres";

if (process.env.DATABASE_URL !== process.env.DIRECT_DATABASE_URL) throw new Error("two databases");
const sql = postgres(process.env.DIRECT_DATABASE_URL, { max: 1, onnotice: () => {} });
try {
  await sql`create table if not exists migrations (name text primary key, at timestamptz default now())`;
  await sql`create table if not exists runs (at timestamptz default now(), who text default current_user, tls boolean)`;
  await sql`insert into runs (tls) select ssl from pg_stat_ssl where pid = pg_backend_pid()`;
  for (const name of (await readdir("migrations")).sort()) {
    if ((await sql`select 1 from migrations where name = ${name}`).length > 0) continue;
    console.log(`migrating: ${name}`);
    await sql.begin(async (step) => {
      await step.unsafe(await readFile(`migrations/${name}`, "utf8"));
      await step`insert into migrations (name) values (${name})`;
    });
  }
} finally {
  await sql.end();
}
