"use client";

import { type ReactNode, useActionState } from "react";

export type ActionState = { ok: boolean; message: string } | null;

type Props = {
  action: (previous: ActionState, form: FormData) => Promise<ActionState>;
  label: string;
  children?: ReactNode;
};

/** A form that works before (and without) JavaScript and shows what its action returned. */
export function ActionForm({ action, label, children }: Props) {
  const [state, submit, pending] = useActionState(action, null);
  return (
    <form action={submit}>
      {children}
      <button disabled={pending}>{label}</button>
      {state && <output data-result={state.ok ? "ok" : "failed"}>{state.message}</output>}
    </form>
  );
}
