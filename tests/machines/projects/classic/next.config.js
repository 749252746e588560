const { version } = require("./package.json");

/** @type {import('next').NextConfig} */
module.exports = {
  reactStrictMode: true,
  poweredByHeader: false,
  basePath: "/library",
  trailingSlash: true,
  i18n: {
    locales: ["en", "de"],
    defaultLocale: "en",
    localeDetection: false,
  },
  images: {
    deviceSizes: [320, 640, 1080],
    formats: ["image/webp"],
  },
  generateBuildId: async () => `library-${version}`,
  async headers() {
    return [
      {
        source: "/:path*",
        headers: [
          { key: "X-Frame-Options", value: "SAMEORIGIN" },
          { key: "Referrer-Policy", value: "strict-origin-when-cross-origin" },
        ],
      },
    ];
  },
  async redirects() {
    return [{ source: "/catalogue/:slug", destination: "/books/:slug", permanent: true }];
  },
  async rewrites() {
    return [{ source: "/hours", destination: "/about" }];
  },
};
