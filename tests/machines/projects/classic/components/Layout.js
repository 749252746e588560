import Link from "next/link";
import { useRouter } from "next/router";
import styles from "../styles/Layout.module.css";

const words = {
  en: { home: "Books", search: "Search", about: "About us" },
  de: { home: "Bücher", search: "Suche", about: "Über uns" },
};

export default function Layout({ children }) {
  const { locale, locales, asPath } = useRouter();
  const word = words[locale] ?? words.en;
  return (
    <div className={styles.page}>
      <header className={styles.header}>
        <Link href="/">{word.home}</Link>
        <Link href="/search">{word.search}</Link>
        <Link href="/about">{word.about}</Link>
        {locales?.map((other) => (
          <Link key={other} href={asPath} locale={other} hrefLang={other}>
            {other}
          </Link>
        ))}
      </header>
      <main>{children}</main>
    </div>
  );
}
