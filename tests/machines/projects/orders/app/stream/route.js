export const dynamic = "force-dynamic";

/** Twenty lines in two seconds. */
export function GET() {
  const lines = async function* () {
    for (let n = 1; n <= 20; n += 1) {
      yield new TextEncoder().encode(`line ${n}\n`);
      await new Promise((done) => setTimeout(done, 100));
    }
  };
  return new Response(ReadableStream.from(lines()));
}
