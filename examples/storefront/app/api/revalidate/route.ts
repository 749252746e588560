import { revalidatePath, revalidateTag } from "next/cache";

/**
 * Revalidate by tag or by path, from a content system's webhook for instance.
 * POST {"tag": "prices"} expires at once; with "profile": "max" old content is served meanwhile.
 * Set REVALIDATE_TOKEN in production: without it anybody may clear the cache.
 */
export async function POST(request: Request) {
  const token = process.env.REVALIDATE_TOKEN;
  if (token && request.headers.get("authorization") !== `Bearer ${token}`) {
    return Response.json({ error: "authorization: Bearer REVALIDATE_TOKEN is required" }, { status: 401 });
  }
  const { tag, path, profile } = await request.json().catch(() => ({}));
  if (typeof tag === "string") revalidateTag(tag, typeof profile === "string" ? profile : { expire: 0 });
  else if (typeof path === "string" && path.startsWith("/")) revalidatePath(path);
  else return Response.json({ error: 'send {"tag": "..."} or {"path": "/..."}' }, { status: 400 });
  return Response.json({ revalidated: tag ?? path, at: new Date().toISOString() });
}
