"use server";

import { after } from "next/server";
import type { ActionState } from "@/components/action-form";
import { sleep } from "@/lib/sleep";
import { release } from "@/lib/stamp";

export async function checkout(_previous: ActionState, form: FormData): Promise<ActionState> {
  const order = String(form.get("order") ?? "").slice(0, 64);
  await sleep(2_000);
  after(() => console.log(`after: receipt for order ${order}`));
  return { ok: true, message: `order ${order} paid, by release ${release()}` };
}
