import { bounded, sleep } from "@/lib/sleep";

/** Server-sent events: `?count=` ticks, `?interval=` ms apart, then a last event named "end". */
export async function GET(request: Request) {
  const query = new URL(request.url).searchParams;
  const count = bounded(query.get("count"), 5, 1, 3_600);
  const interval = bounded(query.get("interval"), 500, 10, 60_000);
  const encoder = new TextEncoder();
  let tick = 0;

  // `pull` is called only while somebody reads: a client that has left costs nothing more.
  const events = new ReadableStream({
    async pull(controller) {
      await sleep(interval);
      tick += 1;
      const data = JSON.stringify({ tick, at: Date.now() });
      controller.enqueue(encoder.encode(`id: ${tick}\nevent: tick\ndata: ${data}\n\n`));
      if (tick < count) return;
      controller.enqueue(encoder.encode("event: end\ndata: {}\n\n"));
      controller.close();
    },
  });
  return new Response(events, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-cache, no-transform" },
  });
}
