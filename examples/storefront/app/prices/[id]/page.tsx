import { connection } from "next/server";
import { StampLine } from "@/components/stamp-line";
import { formatPrice } from "@/lib/catalog";
import { origin } from "@/lib/origin";
import { stamp } from "@/lib/stamp";

type Quote = { id: string; cents: number; quote: string };

/** The `fetch` cache: the page is rendered for every request, the quote in it is not. */
export default async function PricePage({ params }: PageProps<"/prices/[id]">) {
  await connection();
  const { id } = await params;
  const response = await fetch(`${origin()}/api/prices/${id}`, {
    next: { tags: ["prices", `price-${id}`], revalidate: 300 },
  });
  if (!response.ok) throw new Error(`price service answered ${response.status}`);
  const { cents, quote }: Quote = await response.json();
  return (
    <main>
      <h1>Price of product {id}</h1>
      <p data-quote={quote}>{formatPrice(cents)}</p>
      <StampLine stamp={stamp(`/prices/${id}`)} />
    </main>
  );
}
