import type { Stamp } from "@/lib/stamp";

/** The render id of a page, in an attribute that a test can find. */
export function StampLine({ stamp }: { stamp: Stamp }) {
  return (
    <footer data-render={stamp.id}>
      rendered <time dateTime={stamp.at}>{stamp.at}</time> by release {stamp.release}
    </footer>
  );
}
