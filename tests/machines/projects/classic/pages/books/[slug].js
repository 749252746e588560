import Link from "next/link";
import Stamp from "../../components/Stamp";
import { allBooks, findBook } from "../../lib/books";
import { stamp } from "../../lib/stamp";

export default function Book({ book, made }) {
  return (
    <article>
      <h1>{book.title}</h1>
      <p>
        <Link href={`/authors/${book.author}`}>{book.author}</Link>, {book.year}
      </p>
      <Stamp made={made} />
    </article>
  );
}

export async function getStaticPaths({ locales }) {
  const paths = allBooks()
    .slice(0, 2)
    .flatMap(({ slug }) => locales.map((locale) => ({ params: { slug }, locale })));
  return { paths, fallback: "blocking" };
}

export async function getStaticProps({ params, locale }) {
  if (params.slug === "lost") return { redirect: { destination: "/about", permanent: false }, revalidate: 60 };
  const book = findBook(params.slug);
  if (!book) return { notFound: true, revalidate: 60 };
  if (process.env.LIBRARY_SLOW_MS) await new Promise((done) => setTimeout(done, Number(process.env.LIBRARY_SLOW_MS)));
  const made = stamp(`/books/${params.slug} ${locale}`);
  return { props: { book: { ...book, title: book.title[locale] }, made }, revalidate: 3600 };
}
