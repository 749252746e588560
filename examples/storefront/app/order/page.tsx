import { randomUUID } from "node:crypto";
import { connection } from "next/server";
import { ActionForm, type ActionState } from "@/components/action-form";
import { sleep } from "@/lib/sleep";
import { release } from "@/lib/stamp";

/**
 * A Server Action with closure variables that works for two seconds and may not be lost, nor carried out twice:
 * its log has one line when an order is begun and one when it is done.
 */
export default async function OrderPage() {
  await connection();
  const customer = randomUUID();

  async function place(_previous: ActionState, form: FormData): Promise<ActionState> {
    "use server";
    const order = String(form.get("order") ?? "").replace(/[^\w-]/g, "").slice(0, 64);
    console.log(`order ${order} begun`);
    await sleep(2_000);
    console.log(`order ${order} done`);
    return { ok: true, message: `order ${order} of customer ${customer} taken by release ${release()}` };
  }

  return (
    <main data-customer={customer}>
      <h1>Order</h1>
      <ActionForm action={place} label="Order">
        <input name="order" defaultValue={customer} aria-label="Order number" />
      </ActionForm>
    </main>
  );
}
