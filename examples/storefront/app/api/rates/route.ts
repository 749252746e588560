/**
 * An answer that is made anew for every request, and that shared caches may keep: the handler says so itself.
 * ?work=ms makes it slow, ?visit=1 sets a cookie, so that nobody may keep it, whatever it declares.
 */
export async function GET(request: Request) {
  const { searchParams } = new URL(request.url);
  await new Promise((done) => setTimeout(done, Math.min(Number(searchParams.get("work") ?? 0), 10_000)));
  const headers = new Headers({ "cache-control": "s-maxage=30" });
  if (searchParams.has("visit")) headers.set("set-cookie", `visit=${crypto.randomUUID()}; Path=/; HttpOnly`);
  return Response.json({ rate: Math.random(), at: new Date().toISOString() }, { headers });
}
