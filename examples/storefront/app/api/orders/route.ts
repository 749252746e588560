import { randomUUID } from "node:crypto";
import { after } from "next/server";
import { bounded, sleep } from "@/lib/sleep";
import { release } from "@/lib/stamp";

/** A slow POST, and work that goes on after the answer: `after`. `?work=ms&after=ms` set both. */
export async function POST(request: Request) {
  const query = new URL(request.url).searchParams;
  const order = request.headers.get("idempotency-key")?.slice(0, 64) ?? randomUUID();
  const received = (await request.text()).length;
  after(async () => {
    await sleep(bounded(query.get("after"), 0, 0, 10_000));
    console.log(`after: order ${order}`);
  });
  await sleep(bounded(query.get("work"), 2_000, 0, 30_000));
  return Response.json({ order, received, release: release() }, { status: 201 });
}
