import { encodePng } from "@/lib/png";

/** A route handler with a binary body that is cached like a page: bytes must survive the cache. */
export const dynamic = "force-static";
export const revalidate = 60;

export function generateStaticParams() {
  return [];
}

export async function GET(_request: Request, { params }: RouteContext<"/products/[id]/label.png">) {
  const { id } = await params;
  console.log(`render /products/${id}/label.png`);
  const shade = Number.parseInt(id, 10) % 256 || 0;
  return new Response(encodePng(64, (x, y) => [shade, x * 4, y * 4]), {
    headers: { "content-type": "image/png" },
  });
}
