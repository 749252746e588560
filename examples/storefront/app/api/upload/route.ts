import { createHash } from "node:crypto";

/** A large upload, read as it arrives: memory use does not grow with the file. */
export async function POST(request: Request) {
  if (!request.body) return Response.json({ error: "send a body" }, { status: 400 });
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of request.body) {
    bytes += chunk.byteLength;
    hash.update(chunk);
  }
  return Response.json({ bytes, sha256: hash.digest("hex") });
}
