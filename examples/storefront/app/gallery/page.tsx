import type { Metadata } from "next";
import Image from "next/image";
import lamp from "@/images/lamp.jpg";

export const metadata: Metadata = { title: "Gallery" };

/** `next/image`: one import with a content hash in its URL, two files of `public`. */
export default function Gallery() {
  return (
    <main>
      <h1>Gallery</h1>
      <Image src={lamp} alt="A signal lamp at dusk" placeholder="blur" preload />
      <Image src="/images/track.jpg" alt="Track to the horizon" width={1600} height={1000} sizes="(max-width: 60rem) 100vw, 60rem" />
      <Image src="/images/gauge.png" alt="A track gauge" width={800} height={500} quality={60} />
    </main>
  );
}
