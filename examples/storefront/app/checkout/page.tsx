import { ActionForm } from "@/components/action-form";
import { checkout } from "./actions";

/** A static page whose action works for two seconds: what a careless deploy cuts off. */
export default function CheckoutPage() {
  return (
    <main>
      <h1>Checkout</h1>
      <ActionForm action={checkout} label="Pay">
        <input name="order" defaultValue="A-1" aria-label="Order number" />
      </ActionForm>
    </main>
  );
}
