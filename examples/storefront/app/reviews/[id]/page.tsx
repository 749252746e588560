import { revalidatePath, unstable_cache, updateTag } from "next/cache";
import { connection } from "next/server";
import { StampLine } from "@/components/stamp-line";
import { stamp } from "@/lib/stamp";

/** `unstable_cache` with a tag, and a Server Action that reads its own write: `updateTag`. */
export default async function ReviewsPage({ params }: PageProps<"/reviews/[id]">) {
  await connection();
  const { id } = await params;
  const tag = `reviews-${id}`;
  const summarise = unstable_cache(async () => stamp(`reviews ${id}`), ["reviews", id], {
    tags: ["reviews", tag],
    revalidate: 300,
  });
  const summary = await summarise();

  async function addReview() {
    "use server";
    updateTag(tag);
  }

  async function refreshPage() {
    "use server";
    revalidatePath(`/products/${id}`);
  }

  return (
    <main>
      <h1>Reviews of product {id}</h1>
      <p data-summary={summary.id}>summarised {summary.at}</p>
      <form action={addReview}>
        <button>Add a review</button>
      </form>
      <form action={refreshPage}>
        <button>Refresh the product page</button>
      </form>
      <StampLine stamp={stamp(`/reviews/${id}`)} />
    </main>
  );
}
