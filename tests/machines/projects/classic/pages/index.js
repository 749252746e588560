import clsx from "clsx";
import Head from "next/head";
import Image from "next/image";
import Link from "next/link";
import Stamp from "../components/Stamp";
import harbour from "../images/harbour.png";
import { allBooks } from "../lib/books";
import { stamp } from "../lib/stamp";
import styles from "../styles/Home.module.css";

export default function Home({ books, made }) {
  return (
    <>
      <Head>
        <title>Harbour Street Library</title>
      </Head>
      <Image src={harbour} alt="The harbour" width={320} priority />
      <ul className={styles.list}>
        {books.map(({ slug, title, year }) => (
          <li key={slug} className={clsx(year < 1900 && styles.old)}>
            <Link href={`/books/${slug}`}>{title}</Link>
          </li>
        ))}
      </ul>
      <Stamp made={made} />
    </>
  );
}

export async function getStaticProps({ locale }) {
  const books = allBooks()
    .slice(0, 8)
    .map(({ slug, title, year }) => ({ slug, title: title[locale], year }));
  return { props: { books, made: stamp(`/ ${locale}`) }, revalidate: 5 };
}
