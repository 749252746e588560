import { StampLine } from "@/components/stamp-line";
import { stamp } from "@/lib/stamp";

/** ISR with a short window, to count how often a page is regenerated under load. */
export const revalidate = 5;

export default function FlashSale() {
  return (
    <main>
      <h1>Flash sale</h1>
      <p>Regenerated every five seconds, once, however many instances there are.</p>
      <StampLine stamp={stamp("/flash-sale")} />
    </main>
  );
}
