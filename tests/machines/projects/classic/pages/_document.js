import { Head, Html, Main, NextScript } from "next/document";

export default function Document() {
  return (
    <Html>
      <Head>
        <meta name="theme-color" content="#1d4e6b" />
      </Head>
      <body className="library">
        <Main />
        <NextScript />
      </body>
    </Html>
  );
}
