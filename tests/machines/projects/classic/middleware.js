import { NextResponse } from "next/server";

export function middleware(request) {
  const response = NextResponse.next();
  response.headers.set("x-library-locale", request.nextUrl.locale);
  return response;
}

export const config = { matcher: ["/", "/books/:path*"] };
