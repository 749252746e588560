import type { Metadata } from "next";
import { notFound } from "next/navigation";
import { StampLine } from "@/components/stamp-line";
import { featured, findProduct, formatPrice } from "@/lib/catalog";
import { stamp } from "@/lib/stamp";

/** ISR: three pages exist after the build, the others are made when first asked for. */
export const revalidate = 60;

export function generateStaticParams() {
  return featured.map(({ id }) => ({ id }));
}

type Props = PageProps<"/products/[id]">;

export async function generateMetadata({ params }: Props): Promise<Metadata> {
  return { title: findProduct((await params).id)?.name };
}

export default async function ProductPage({ params }: Props) {
  const product = findProduct((await params).id);
  if (!product) notFound();
  return (
    <main>
      <h1>{product.name}</h1>
      <p>{formatPrice(product.cents)}</p>
      <img src={`/products/${product.id}/label.png`} alt="" width={64} height={64} />
      <StampLine stamp={stamp(`/products/${product.id}`)} />
    </main>
  );
}
