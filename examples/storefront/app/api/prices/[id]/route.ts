import { findProduct } from "@/lib/catalog";
import { stamp } from "@/lib/stamp";

/** The source that `/prices/[id]` fetches from: every answer is a new quote. */
export async function GET(_request: Request, { params }: RouteContext<"/api/prices/[id]">) {
  const { id } = await params;
  const product = findProduct(id);
  if (!product) return Response.json({ error: `no product ${id}` }, { status: 404 });
  return Response.json({ id, cents: product.cents, quote: stamp(`/api/prices/${id}`).id });
}
