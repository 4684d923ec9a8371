"""What collections share that should share nothing: patients, images, changed copies of images."""
