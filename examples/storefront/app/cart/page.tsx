import { randomUUID } from "node:crypto";
import { connection } from "next/server";
import { ActionForm, type ActionState } from "@/components/action-form";
import { Care } from "@/components/care";
import { StampLine } from "@/components/stamp-line";
import { findProduct } from "@/lib/catalog";
import { release, stamp } from "@/lib/stamp";

/**
 * A Server Action with closure variables: `cart` and `pageRelease` travel to the browser
 * encrypted and come back with the form. Another release can read them only with the same key.
 */
export default async function CartPage() {
  await connection();
  const cart = randomUUID();
  const pageRelease = release();

  async function addToCart(_previous: ActionState, form: FormData): Promise<ActionState> {
    "use server";
    const product = findProduct(String(form.get("product")));
    if (!product) return { ok: false, message: "no such product" };
    const line = `${product.name} is in cart ${cart}; page from release ${pageRelease}, action on ${release()}`;
    return { ok: true, message: line };
  }

  return (
    <main data-cart={cart}>
      <h1>Cart</h1>
      <ActionForm action={addToCart} label="Add">
        <input name="product" defaultValue="1" aria-label="Product id" />
      </ActionForm>
      <Care />
      <StampLine stamp={stamp("/cart")} />
    </main>
  );
}
