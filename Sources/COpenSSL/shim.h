// OpenSSL 3.0 as Swift sees it: the library's headers, and its macros as functions (prefix `copenssl_`).
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

// --- SSL_CTX and SSL

static inline int copenssl_ctx_only_tls13(SSL_CTX *ctx) {
  return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1;
}
static inline void copenssl_ctx_set_mode(SSL_CTX *ctx) {
  SSL_CTX_clear_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
  SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY | SSL_MODE_NO_AUTO_CHAIN);
}
static inline void copenssl_ctx_set_options(SSL_CTX *ctx) {
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_NO_COMPRESSION);
  SSL_CTX_clear_options(ctx, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
}
static inline void copenssl_ctx_no_session_cache(SSL_CTX *ctx) {
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}
static inline void copenssl_ctx_set_max_cert_list(SSL_CTX *ctx, long bytes) { SSL_CTX_set_max_cert_list(ctx, bytes); }
static inline int copenssl_ctx_set_groups(SSL_CTX *ctx, const char *groups) {
  return (int)SSL_CTX_set1_groups_list(ctx, groups);
}
static inline void copenssl_ctx_set_server_name_callback(SSL_CTX *ctx, int (*callback)(SSL *, int *, void *)) {
  SSL_CTX_set_tlsext_servername_callback(ctx, callback);
}
static inline int copenssl_set_server_name(SSL *ssl, const char *name) {
  return (int)SSL_set_tlsext_host_name(ssl, name);
}
static inline int copenssl_add_chain_certificate(SSL_CTX *ctx, X509 *certificate) {
  return (int)SSL_CTX_add1_chain_cert(ctx, certificate);
}
// What the context's authorities know between its certificate and a root, without the root.
static inline void copenssl_complete_chain(SSL_CTX *ctx) {
  (void)SSL_CTX_build_cert_chain(ctx, SSL_BUILD_CHAIN_FLAG_NO_ROOT | SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR |
                                        SSL_BUILD_CHAIN_FLAG_CLEAR_ERROR);
  ERR_clear_error();
}

// --- BIO

static inline void copenssl_bio_no_retry(BIO *bio) { BIO_clear_retry_flags(bio); }
static inline void copenssl_bio_retry_read(BIO *bio) {
  BIO_clear_retry_flags(bio);
  BIO_set_retry_read(bio);
}
// What was written to a memory BIO; the bytes stay the BIO's.
static inline size_t copenssl_bio_contents(BIO *bio, char **bytes) {
  long count = BIO_get_mem_data(bio, bytes);
  return count > 0 ? (size_t)count : 0;
}

// --- errors

static inline int copenssl_error_library(unsigned long code) { return ERR_GET_LIB(code); }
static inline int copenssl_error_reason(unsigned long code) { return ERR_GET_REASON(code); }

// --- X509

// How many URI names the certificate's subjectAltName has, -1 if the extension is malformed or there twice. The first
// one's bytes go to `buffer`, as many as fit; `length` is how many it has.
static inline int copenssl_uri_names(const X509 *certificate, unsigned char *buffer, size_t capacity, size_t *length) {
  int critical = 0;
  GENERAL_NAMES *names = (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, NULL);
  *length = 0;
  if (names == NULL) return critical == -1 ? 0 : -1;
  int count = 0;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    if (count++ > 0) continue;
    int size = ASN1_STRING_length(name->d.uniformResourceIdentifier);
    *length = size > 0 ? (size_t)size : 0;
    memcpy(buffer, ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), *length < capacity ? *length : capacity);
  }
  GENERAL_NAMES_free(names);
  return count;
}

static inline STACK_OF(X509) *copenssl_chain_new(void) { return sk_X509_new_null(); }
static inline int copenssl_chain_add(STACK_OF(X509) *chain, X509 *certificate) {
  return X509_add_cert(chain, certificate, X509_ADD_FLAG_UP_REF);
}
static inline void copenssl_chain_free(STACK_OF(X509) *chain) { sk_X509_pop_free(chain, X509_free); }

static inline int copenssl_digest_certificate(EVP_MD_CTX *digest, const X509 *certificate) {
  unsigned char *bytes = NULL;
  int count = i2d_X509(certificate, &bytes);
  int done = count > 0 && EVP_DigestUpdate(digest, bytes, (size_t)count) == 1;
  OPENSSL_free(bytes);
  return done;
}
// Fingerprint (32 bytes) of all that the peer sent, the leaf first; 0 where that is more than any honest chain. `sha256` is
// a fetched one: X509_digest would look it up for each certificate. DER says itself where it ends.
static inline int copenssl_chain_digest(X509_STORE_CTX *context, const EVP_MD *sha256, unsigned char *bytes) {
  const STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(context);
  const X509 *leaf = X509_STORE_CTX_get0_cert(context);
  int count = sent == NULL ? 0 : sk_X509_num(sent);
  if (leaf == NULL || bytes == NULL || sha256 == NULL || count < 0 || count > 7) return 0;
  EVP_MD_CTX *digest = EVP_MD_CTX_new();
  int done = digest != NULL && EVP_DigestInit_ex(digest, sha256, NULL) == 1 && copenssl_digest_certificate(digest, leaf);
  for (int i = 0; done && i < count; i++) {
    const X509 *certificate = sk_X509_value(sent, i);
    // The library puts the leaf among the others too.
    if (i > 0 || certificate != leaf) done = copenssl_digest_certificate(digest, certificate);
  }
  done = done && EVP_DigestFinal_ex(digest, bytes, NULL) == 1;
  EVP_MD_CTX_free(digest);
  return done;
}

// Seconds since 1970 between which every certificate of a verified chain is valid; 0 if that can't be told.
static inline int copenssl_chain_span(X509_STORE_CTX *context, int64_t *not_before, int64_t *not_after) {
  const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(context);
  *not_before = INT64_MIN;
  *not_after = INT64_MAX;
  for (int i = 0; chain != NULL && i < sk_X509_num(chain); i++) {
    struct tm from, until;
    const X509 *certificate = sk_X509_value(chain, i);
    if (ASN1_TIME_to_tm(X509_get0_notBefore(certificate), &from) != 1) return 0;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &until) != 1) return 0;
    int64_t first = (int64_t)timegm(&from), last = (int64_t)timegm(&until);
    if (first > *not_before) *not_before = first;
    if (last < *not_after) *not_after = last;
  }
  return chain != NULL && sk_X509_num(chain) > 0;
}

static inline int copenssl_no_passphrase(char *buffer, int size, int is_writing, void *argument) {
  (void)buffer, (void)size, (void)is_writing, (void)argument;
  return -1;
}
// The first private key of a PEM text, or NULL; an encrypted one is refused instead of asked for.
static inline EVP_PKEY *copenssl_read_private_key(const void *pem, size_t count) {
  BIO *bio = count <= INT32_MAX ? BIO_new_mem_buf(pem, (int)count) : NULL;
  if (bio == NULL) return NULL;
  EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, copenssl_no_passphrase, NULL);
  BIO_free(bio);
  return key;
}

static inline EVP_PKEY *copenssl_make_p256_key(void) { return EVP_EC_gen("P-256"); }

// Overwrites bytes so that no optimizer drops it.
static inline void copenssl_cleanse(void *bytes, size_t count) { OPENSSL_cleanse(bytes, count); }

// RFC 2253 order and escapes, but letters of other alphabets as they are.
static inline unsigned long copenssl_name_flags(void) { return XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB; }
