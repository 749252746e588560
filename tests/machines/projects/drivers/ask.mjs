// `node ask.mjs DRIVER`: 300 queries with parameters by 6 clients at once, some of them in transactions, over
// DATABASE_URL. Prints the server connections they had and the errors they met.
const url = process.env.DATABASE_URL;
const CLIENTS = 6;
const text = "select pg_backend_pid() as pid, $1::int + $2::int as sum from pg_sleep(0.002)";

const drivers = {
  postgres: async () => {
    const { default: postgres } = await import("postgres");
    const sql = postgres(url, { max: CLIENTS, onnotice: () => {} });
    return {
      ask: (one, two) => sql`select pg_backend_pid() as pid, ${one}::int + ${two}::int as sum from pg_sleep(0.002)`,
      both: (one, two) => sql.begin(async (step) => [
        ...(await step`select pg_backend_pid() as pid, ${one}::int + ${two}::int as sum from pg_sleep(0.002)`),
        ...(await step`select pg_backend_pid() as pid, ${two}::int + ${one}::int as sum from pg_sleep(0.002)`),
      ]),
      end: () => sql.end(),
    };
  },
  pg: (name) => async () => {
    const { default: pg } = await import("pg");
    const pool = new pg.Pool({ connectionString: url, max: CLIENTS });
    const ask = async (client, values) => (await client.query({ text, values, ...(name ? { name } : {}) })).rows;
    return {
      ask: (one, two) => ask(pool, [one, two]),
      both: async (one, two) => {
        const client = await pool.connect();
        try {
          await client.query("begin");
          const rows = [...(await ask(client, [one, two])), ...(await ask(client, [two, one]))];
          await client.query("commit");
          return rows;
        } catch (error) {
          await client.query("rollback").catch(() => {});
          throw error;
        } finally {
          client.release();
        }
      },
      end: () => pool.end(),
    };
  },
  prisma: async () => {
    const { PrismaPg } = await import("@prisma/adapter-pg");
    const adapter = await new PrismaPg({ connectionString: url, max: CLIENTS }).connect();
    const argTypes = [{ scalarType: "int", arity: "scalar" }, { scalarType: "int", arity: "scalar" }];
    const ask = async (on, args) => (await on.queryRaw({ sql: text, args, argTypes })).rows.map(([pid, sum]) => ({ pid, sum }));
    return {
      ask: (one, two) => ask(adapter, [one, two]),
      both: async (one, two) => {
        const step = await adapter.startTransaction();
        await step.executeRaw({ sql: "begin", args: [], argTypes: [] }).catch(() => {});
        const rows = [...(await ask(step, [one, two])), ...(await ask(step, [two, one]))];
        await step.executeRaw({ sql: "commit", args: [], argTypes: [] });
        await step.commit();
        return rows;
      },
      end: () => adapter.dispose(),
    };
  },
};
drivers.named = drivers.pg("a statement by name");
drivers.pg = drivers.pg();

const { ask, both, end } = await drivers[process.argv[2]]();
const pids = new Set();
const errors = new Set();
for (let round = 0; round < 10; round += 1) {
  const answers = await Promise.allSettled(
    Array.from({ length: 30 }, (_, number) => [number % 5 ? ask : both, number])
      .map(async ([how, number]) => [number + round, await how(number, round)]),
  );
  for (const { status, value, reason } of answers) {
    if (status === "rejected") errors.add(`${reason.code ?? reason.cause?.originalCode}: ${reason.message}`);
    else {
      for (const row of value[1]) {
        pids.add(row.pid);
        if (row.sum !== value[0]) errors.add(`${row.sum} is not ${value[0]}`);
      }
    }
  }
}
await Promise.race([end(), new Promise((resolve) => setTimeout(resolve, 1000))]);
console.log(JSON.stringify({ connections: pids.size, errors: [...errors] }));
process.exit(0);
