import { useRouter } from "next/router";
import Stamp from "../../components/Stamp";
import { booksOf } from "../../lib/books";
import { stamp } from "../../lib/stamp";

export default function Author({ name, titles, made }) {
  const { isFallback } = useRouter();
  if (isFallback) return <p data-waiting="yes">One moment, please.</p>;
  return (
    <article>
      <h1>{name}</h1>
      <p>{titles.join(", ")}</p>
      <Stamp made={made} />
    </article>
  );
}

export async function getStaticPaths() {
  return { paths: [{ params: { name: "herbert" }, locale: "en" }], fallback: true };
}

export async function getStaticProps({ params, locale }) {
  const titles = booksOf(params.name).map(({ title }) => title[locale]);
  if (!titles.length) return { notFound: true };
  return { props: { name: params.name, titles, made: stamp(`/authors/${params.name} ${locale}`) } };
}
