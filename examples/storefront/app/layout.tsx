import type { Metadata } from "next";
import Link from "next/link";
import type { ReactNode } from "react";
import "./globals.css";

export const metadata: Metadata = {
  title: { default: "Storefront", template: "%s - Storefront" },
  description: "A small shop that uses every Next.js feature which is hard to self-host.",
};

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <nav>
          <Link href="/">Storefront</Link>
          <Link href="/gallery">Gallery</Link>
          <Link href="/cart">Cart</Link>
          <Link href="/streaming">Streaming</Link>
        </nav>
        {children}
      </body>
    </html>
  );
}
