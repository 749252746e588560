import Link from "next/link";
import { StampLine } from "@/components/stamp-line";
import { featured, formatPrice } from "@/lib/catalog";
import { stamp } from "@/lib/stamp";

/** Static: rendered once, when the app is built. */
export default function Home() {
  return (
    <main>
      <h1>Storefront</h1>
      <ul>
        {featured.map((product) => (
          <li key={product.id}>
            <Link href={`/products/${product.id}`}>{product.name}</Link> {formatPrice(product.cents)}
          </li>
        ))}
      </ul>
      <StampLine stamp={stamp("/")} />
    </main>
  );
}
