import { Suspense } from "react";
import { bounded, sleep } from "@/lib/sleep";

/** Suspense streaming with known delays: chunk n arrives n x `delay` ms after the shell. */
export default async function StreamingPage({ searchParams }: PageProps<"/streaming">) {
  const query = await searchParams;
  const chunks = bounded(String(query.chunks), 5, 1, 60);
  const delay = bounded(String(query.delay), 500, 10, 5_000);
  return (
    <main>
      <h1>Streaming</h1>
      <p data-shell={`${chunks}x${delay}`}>
        {chunks} chunks, {delay} ms apart
      </p>
      {Array.from({ length: chunks }, (_, index) => (
        <Suspense key={index} fallback={<p>waiting for chunk {index + 1}</p>}>
          <Chunk number={index + 1} after={(index + 1) * delay} />
        </Suspense>
      ))}
    </main>
  );
}

async function Chunk({ number, after }: { number: number; after: number }) {
  await sleep(after);
  return <p data-chunk={number}>{`chunk ${number} after ${after} ms`}</p>;
}
