import type { NextConfig } from "next";

// Nothing here is about hosting: no `output`, no cache handler, no deployment id.
// Roadbed adds those at build time and leaves alone whatever a project sets itself.
const nextConfig: NextConfig = {
  poweredByHeader: false,
  turbopack: { root: import.meta.dirname },
  outputFileTracingRoot: import.meta.dirname,
  images: {
    localPatterns: [{ pathname: "/images/**" }],
    formats: ["image/avif", "image/webp"],
    qualities: [60, 75],
  },
  experimental: {
    // The 'use cache' directive next to route segment config (`revalidate`, `dynamic`).
    // `cacheComponents: true` is its successor, but switches the whole app to another model.
    useCache: true,
  },
};

export default nextConfig;
