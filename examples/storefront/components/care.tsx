"use client";

import dynamic from "next/dynamic";
import { useState } from "react";

const CareGuide = dynamic(() => import("./care-guide"), { ssr: false });

/** An open page asks for this chunk minutes or hours after it was loaded: its release may be gone by then. */
export function Care() {
  const [open, setOpen] = useState(false);
  return (
    <aside>
      <button type="button" onClick={() => setOpen(true)}>
        Care guide
      </button>
      {open && <CareGuide />}
    </aside>
  );
}
