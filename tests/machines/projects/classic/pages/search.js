import Link from "next/link";
import Stamp from "../components/Stamp";
import { allBooks } from "../lib/books";
import { stamp } from "../lib/stamp";

export default function Search({ query, found, greeting, made }) {
  return (
    <>
      <p data-greeting={greeting}>{greeting}</p>
      <form>
        <input name="q" defaultValue={query} />
      </form>
      <ol>
        {found.map(({ slug, title }) => (
          <li key={slug}>
            <Link href={`/books/${slug}`}>{title}</Link>
          </li>
        ))}
      </ol>
      <Stamp made={made} />
    </>
  );
}

export async function getServerSideProps({ query, locale, res }) {
  const text = String(query.q ?? "");
  if (text === "crash") throw new Error("the search broke");
  const all = allBooks().map(({ slug, title }) => ({ slug, title: title[locale] }));
  const found = all.filter(({ title }) => title.toLowerCase().includes(text.toLowerCase())).slice(0, 10);
  res.setHeader("Cache-Control", "private, no-store");
  const greeting = process.env.LIBRARY_GREETING ?? "Welcome";
  return { props: { query: text, found, greeting, made: stamp(`/search ${locale}`) } };
}
