export const dynamic = "force-dynamic";

export function GET() {
  console.error("the price list is missing");
  return new Response("prices: no such table", { status: 500 });
}
